"""MovieLens 10M's tags, and the pairs of two that tell their users apart; see `movie_pairs.py`."""

from collections import defaultdict
from pathlib import Path
from random import Random

MOVIES, USERS, UNSEEN = 400, 150, 30  # the movies with the most taggers; users with the most tags on them
TRAIN, HELDOUT, NEW = 40, 14, 24  # pairs per user at most: trained on, held out, of an unseen user


def read_tags(data: Path) -> tuple[dict[str, dict[str, set[str]]], dict[str, str]]:
    """movie -> user -> tags in lower case; movie -> its title and genres."""
    titles = {}
    for line in (data / "movielens10m/movies.dat").read_text(encoding="utf-8").splitlines():
        number, rest = line.split(";", 1)
        title, genres = rest.rsplit(";", 1)
        titles[number] = f"{title}. {genres.replace('|', ', ')}"
    tags: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for line in (data / "movielens10m/tags.dat").read_text(encoding="utf-8").splitlines():
        user, movie, rest = line.split(";", 2)
        tag = rest.rsplit(";", 1)[0].strip().lower()
        if movie in titles and 1 < len(tag) <= 40:
            tags[movie][user].add(tag)
    return tags, titles


def choose_pairs(tags: dict[str, dict[str, set[str]]], seed: int) -> list[tuple[str, str, str, str, str]]:
    """(split, user, movie, own tag, other's tag); split train, val, test (of seen users) or new (of unseen ones)."""
    random = Random(f"movie-pairs-{seed}")
    movies = sorted(tags, key=lambda movie: (-len(tags[movie]), movie))[:MOVIES]
    counts: dict[str, int] = defaultdict(int)
    for movie in movies:
        for user in tags[movie]:
            counts[user] += 1
    users = sorted(counts, key=lambda user: (-counts[user], user))[:USERS]
    unseen = set(random.sample(users, UNSEEN))
    split_of = {movie: random.choices(("train", "val", "test"), (0.63, 0.07, 0.3))[0] for movie in movies}
    meetings = [
        (movie, a, b)
        for movie in movies
        for i, a in enumerate(sorted(set(tags[movie]) & set(users)))
        for b in sorted(set(tags[movie]) & set(users))[i + 1 :]
    ]
    random.shuffle(meetings)
    room = {"train": TRAIN, "val": HELDOUT, "test": HELDOUT, "new": NEW}
    taken: dict[tuple[str, str], int] = defaultdict(int)
    found = []
    for movie, a, b in meetings:
        own = {user: sorted(tags[movie][user] - tags[movie][other]) for user, other in ((a, b), (b, a))}
        new = {a, b} & unseen
        split = "new" if new else split_of[movie]
        sides = sorted(new) if new else [a, b]
        if not (own[a] and own[b]) or any(taken[split, user] >= room[split] for user in sides):
            continue
        chosen = {a: random.choice(own[a]), b: random.choice(own[b])}
        for user in sides:
            taken[split, user] += 1
            found.append((split, user, movie, chosen[user], chosen[b if user == a else a]))
    return found
