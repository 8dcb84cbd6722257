"""What comes over the web: waited for and taken up to a bound only."""
import time

import requests
import urllib3

TIMEOUT = (15, 60)  # [s] for a server to connect, and between two pieces of its answer
LEAST_RATE = 1000  # [bytes/s]
CHUNK = 1 << 16  # [bytes]; at most this much is lost when a connection breaks


def pieces(answer):
    """The body of an answer of `requests` as it comes; a server that sends next to nothing is given up."""
    since, received = time.monotonic(), 0
    try:
        while piece := answer.raw.read1(CHUNK, decode_content=True):
            yield piece
            received += len(piece)
            if time.monotonic() - since > TIMEOUT[1]:
                if received < LEAST_RATE * TIMEOUT[1]:
                    raise requests.ConnectionError(f"less than {LEAST_RATE} bytes a second for {TIMEOUT[1]} s")
                since, received = time.monotonic(), 0
    except urllib3.exceptions.HTTPError as error:
        raise requests.ConnectionError(error) from None
