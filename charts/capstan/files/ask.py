"""`helm test`: asks the gateway a question, and fails without an answer."""

import json
import os
import urllib.request
from pathlib import Path

body = {"model": os.environ["MODEL"], "messages": [{"role": "user", "content": os.environ["QUESTION"]}]}
request = urllib.request.Request(
    f"{os.environ['GATEWAY']}/v1/chat/completions",
    data=json.dumps(body).encode(),
    headers={
        "Authorization": f"Bearer {Path('/run/secrets/api-key').read_text().strip()}",
        "Content-Type": "application/json",
    },
)
with urllib.request.urlopen(request, timeout=120) as response:
    answer = json.load(response)["choices"][0]["message"]["content"]
assert answer.strip(), "the answer is empty"
print(answer)
