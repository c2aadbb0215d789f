"""What the Python daemon does that patroni-check succeeds, in our own words: the baseline of `make bench`.

    original.py PORT PATRONI_URL

One connection at a time, a backlog of one, no timeout, the role alone.
"""

import json
import socket
import sys
import urllib.request


def role(url):
    try:
        with urllib.request.urlopen(url) as answer:
            return json.load(answer).get("role")
    except OSError:
        return None


listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("0.0.0.0", int(sys.argv[1])))
listener.listen(1)
while True:
    client, _ = listener.accept()
    # "primary" is what the original does not know; without it there would be nothing to compare with on Patroni 4.
    ready = role(sys.argv[2]) in ("master", "primary")
    client.sendall(b"READY\n" if ready else b"MAINT\n")
    client.close()
