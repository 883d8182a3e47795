"""The one error that is the user's to mend."""


class UserError(Exception):
    """Bad input: the message is one line that says what was wrong, where, and what to do.

    `main.py` prints it without a traceback and exits with code 2. Anything else that is raised
    is a bug of ours and keeps its traceback.
    """
