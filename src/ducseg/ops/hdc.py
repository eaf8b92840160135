"""Stop-gap until the owner's version lands."""


def schedule(name: str, num_blocks_res4: int, num_blocks_res5: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    groups = {"none": ((1,), (1,)), "dilated": ((2,), (4,)), "bigger": ((1, 2, 5, 9), (5, 9, 17))}[name]
    return tuple(tuple(g[i % len(g)] for i in range(n)) for g, n in zip(groups, (num_blocks_res4, num_blocks_res5)))  # type: ignore[return-value]
