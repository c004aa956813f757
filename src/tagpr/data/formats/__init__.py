"""One reader per format, all behind `Reader` (`protocol.py`); `registry.py` says which one reads a path."""
