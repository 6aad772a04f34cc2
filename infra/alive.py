"""Whether a server answers, for health checks: ``python -m infra.alive URL`` exits 0 or 1."""

import sys
import urllib.error
import urllib.request

TIMEOUT_S = 4


def alive(url: str) -> bool:
    """Whether anything but a server's own fault (5xx) comes back, around any proxy.

    A store answers 403 to a caller without a name: it is well.
    """
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(url, timeout=TIMEOUT_S):
            return True
    except urllib.error.HTTPError as fault:
        return fault.code < 500
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(0 if alive(sys.argv[1]) else 1)
