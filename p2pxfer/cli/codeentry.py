"""The question for the code that the other machine shows."""

from __future__ import annotations

from functools import partial

from p2pxfer.cli.questions import Questions
from p2pxfer.core.contact.codes import Code, typed_code
from p2pxfer.core.contact.pairplace import OWN_CODE, place_in
from p2pxfer.core.text import safe_text
from p2pxfer.errors import CodeInvalid


async def enter_code(questions: Questions, own_place: int, why: str) -> Code | None:
    """The code that is typed, as soon as it can be one; ``None`` when nobody can type any more.

    ``own_place`` is the one in the code that is shown here; ``why``: what was wrong with the last code, empty for the
    first one.
    """
    while True:
        # Why it is asked for again is part of the question, where it is seen with --quiet too.
        question = f"{safe_text(why)}\n" * bool(why) + "or type the code that the other machine shows: "
        typed = await questions.line(partial(str, question))
        if typed is None:
            return None
        text = typed.decode("ascii", "replace")
        if not text.strip():
            continue
        try:
            code = typed_code(text)
        except CodeInvalid as error:
            why = error.message
            continue
        if place_in(code) != own_place:
            return code
        why = OWN_CODE
