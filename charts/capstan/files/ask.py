"""`helm test`: asks the gateway a question, and fails without an answer.

Waits for workers that still load their model (503), for less than Helm's own time limit of five minutes.
"""

import json
import os
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

_LOADING_S = 240

body = {"model": os.environ["MODEL"], "messages": [{"role": "user", "content": os.environ["QUESTION"]}]}
request = urllib.request.Request(
    f"{os.environ['GATEWAY']}/v1/chat/completions",
    data=json.dumps(body).encode(),
    headers={
        "Authorization": f"Bearer {Path('/run/secrets/api-key').read_text().strip()}",
        "Content-Type": "application/json",
    },
)
until = time.monotonic() + _LOADING_S
while True:
    try:
        with urllib.request.urlopen(request, timeout=120) as response:
            answer = json.load(response)["choices"][0]["message"]["content"]
        break
    except urllib.error.HTTPError as error:
        if error.code != 503 or time.monotonic() > until:
            sys.exit(f"the gateway answered {error.code}: {error.read().decode(errors='replace')}")
        time.sleep(1)
if not answer.strip():
    sys.exit("the answer is empty")
print(answer)
