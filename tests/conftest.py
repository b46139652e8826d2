"""What the whole suite needs: Ctrl-C works, whoever started it."""

import signal

# A background job of a script inherits an ignored SIGINT and hands it on; tests of Ctrl-C need the default.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
