"""What a person runs: `test`, `demo` and `bench`, and the Python modules behind them."""
