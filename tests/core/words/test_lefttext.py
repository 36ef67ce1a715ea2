"""The end of a transfer without some of its files, in the words of the sender."""

from __future__ import annotations

from p2pxfer.core.words.lefttext import left_out_error
from p2pxfer.errors import SourceChanged, SourceUnreadable


def test_one_file_that_changed() -> None:
    error = left_out_error(SourceChanged("'d;x' changed while it was being sent; run again"), ["d;x"])
    assert error.message == (
        "'d;x' changed while it was being sent; it was left out, and everything else has arrived: send that file again"
    )
    assert (error.word, error.exit_code, error.retry) == ("E_SOURCE_CHANGED", 8, False)


def test_one_file_that_cannot_be_read_keeps_the_word_of_the_system() -> None:
    error = left_out_error(SourceUnreadable("reading 'd/x' failed: Input/output error; try again"), ["d/x"])
    assert error.message.startswith("reading 'd/x' failed: Input/output error; it was left out, and everything else")
    assert (error.word, error.exit_code, error.retry) == ("E_IO", 8, False)


def test_of_many_files_a_few_are_named() -> None:
    error = left_out_error(SourceUnreadable("reading d/0 failed"), [f"d/{number}" for number in range(7)])
    assert error.message == (
        "7 files changed or could not be read while they were being sent: d/0, d/1, d/2, d/3, d/4 and 2 more; they were"
        " left out, and everything else has arrived: send those files again"
    )
