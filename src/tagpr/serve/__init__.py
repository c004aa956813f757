"""The trained model in use: ask it, serve it, forget a user.

import tagpr

model = tagpr.load("runs/mine")
model.ask("ada", "a faster parser for log files").answer

`PersonalModel` (`model.py`) answers; `served_run.py` reads what a finished run has to say about how it was trained;
`histories.py` knows the users' histories; `batching.py` decodes concurrent questions side by side.
"""
