"""Items that a model of a few thousand weights can learn."""

from capstan.jobs.assistant.items import Item

WORDS = ("all", "long", "quiet", "force", "output", "input", "name", "size", "time", "user")


def items(count: int = 24) -> list[Item]:
    made = []
    for number in range(count):
        word = WORDS[number % len(WORDS)]
        question = " ".join(["Which option of tool", str(number), "means", *[word] * (1 + number % 5)]) + "?"
        made.append(
            Item(
                id=f"option/{number}",
                kind="option",
                source=f"manpages:tool{number}(1)",
                messages=({"role": "user", "content": question},),
                reference=f"--{word}",
                check={"accepted": [f"--{word}"], "known": [f"--{other}" for other in WORDS]},
            )
        )
    return made
