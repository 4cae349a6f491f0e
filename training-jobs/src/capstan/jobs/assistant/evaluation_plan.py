"""The recipe's section `evaluation`: how arms are asked and compared."""

from pydantic import BaseModel, ConfigDict, Field


class Evaluation(BaseModel):
    """Greedy answers to the held-out items, judged by the checkers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_tokens: int = Field(128, ge=1, description="Longest answer.")
    concurrency: int = Field(16, ge=1, description="Requests at a time.")
    tie_margin: float = Field(0.05, ge=0, le=1, description="Difference in similarity below which a pair is a tie.")
    general_documents: int = Field(40, ge=1, description="Most held-out documents in the check for forgetting.")
    general_items: int = Field(150, ge=1, description="Most items of each of its two tasks.")
    judge_pairs: int = Field(200, ge=1, description="Pairs that an LLM judge sees, where there is one.")
    judge_tokens: int = Field(512, ge=1, description="Longest answer of the judge; one that thinks aloud needs them.")
    timed_items: int = Field(20, ge=1, description="Items asked one at a time for the latency of a format.")
