"""The health check: status 0 when the service and its database answer."""

import sys
import urllib.request

try:
    with urllib.request.urlopen("http://127.0.0.1:8000/health", timeout=5) as answer:
        sys.exit(answer.status != 200)
except OSError as error:
    sys.exit(str(error))
