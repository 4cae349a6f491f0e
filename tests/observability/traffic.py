"""Something of everything that the services measure."""

import httpx2
from running_stack import RunningStack

CHAT = {"model": "smollm2-135m", "stream": True, "stream_options": {"include_usage": True}, "max_tokens": 8}
QUESTION = "How do I record the current state with git stash, and which system call creates a pipe?"
PAGE = "<html><title>Notes</title><h1>Notes</h1><p>The build writes its report into the directory out.</p></html>"


class Traffic:
    """`second` is a client of the gateway that has Redis and prices; `stack`'s own gateway has neither."""

    def __init__(self, stack: RunningStack, second: httpx2.Client, admin_key: str) -> None:
        self._stack = stack
        self._second = second
        self._admin = {"authorization": f"Bearer {admin_key}"}
        self._keys = {
            "acme": self._tenant("acme", monthly_budget_usd=100),
            "globex": self._tenant("globex", monthly_budget_usd=20, priority="batch"),
            "limited": self._tenant("limited", requests_per_minute=1),
        }

    def run(self) -> None:
        """One round."""
        for tenant in self._keys:
            for _ in range(2):
                self._chat(tenant, "Say something of the weather. " * 40)
        with self._stack.client() as client:
            self._ask(client)
            files = {"file": ("notes.html", PAGE.encode(), "text/html")}
            client.post("/v1/files", files=files).raise_for_status()

    def clean(self) -> None:
        """Take the upload away again: others use the same stack."""
        with self._stack.client() as client:
            client.delete("/v1/documents/files/notes.html").raise_for_status()

    def _chat(self, tenant: str, text: str) -> None:
        body = {**CHAT, "messages": [{"role": "user", "content": text}]}
        headers = {"authorization": f"Bearer {self._keys[tenant]}"}
        response = self._second.post("/v1/chat/completions", json=body, headers=headers)
        assert response.status_code == 200 or tenant == "limited", response.text

    def _ask(self, client: httpx2.Client) -> None:
        """An answer by the model, one in the documents' words, none where nothing is relevant; thumbs and a click."""
        body = {"model": "docs", "messages": [{"role": "user", "content": QUESTION}]}
        client.post("/v1/chat/completions", json={**body, "stream": True}).raise_for_status()
        extract, abstention = (
            client.post("/v1/chat/completions", json={**body, "capstan": options}).raise_for_status().json()
            for options in ({"extractive": True}, {"min_relevance": 1})
        )
        chunk = extract["capstan"]["sources"][0]["chunk_id"]
        self._say(client, answer_id=extract["id"], kind="up")
        self._say(client, answer_id=extract["id"], kind="click", chunk_id=chunk)
        self._say(client, answer_id=abstention["id"], kind="down")

    @staticmethod
    def _say(client: httpx2.Client, **feedback: str) -> None:
        client.post("/v1/feedback", json=feedback).raise_for_status()

    def _tenant(self, name: str, **limits: object) -> str:
        """Make a tenant at the second gateway; its key."""
        path = f"/admin/v1/tenants/{name}"
        self._second.put(path, json=limits, headers=self._admin).raise_for_status()
        response = self._second.post(f"{path}/keys", headers=self._admin).raise_for_status()
        return str(response.json()["key"])
