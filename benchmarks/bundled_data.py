"""How strong the personal signal of the bundled sample is, by methods without a language model.

    python benchmarks/bundled_data.py        # a few seconds; writes benchmarks/results/bundled-data.json

Sections: majority label, the user's commonest label, naive Bayes on the synopsis alone, and the same naive Bayes times
the user's own label frequencies. Synopses: ROUGE of the description's lead, and of the user's nearest past synopsis
(BM25). Means over five seeds of the held-out choice, about 326 examples each.
"""

import re
from collections import Counter
from pathlib import Path
from statistics import mean

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.naive_bayes import MultinomialNB

from results_file import write_results
from tagpr.data import DataSettings, Splits, load_splits
from tagpr.profiles import ProfileSettings, choose
from tagpr.tasks import Example
from tagpr.tasks.metrics import score_all

SMOOTHING = 0.5  # pseudo-count of the corpus-wide label frequencies in a user's own


def section_baselines(splits: Splits) -> dict[str, float]:
    labels = list(splits.task.labels)
    corpus = Counter(example.target for example in splits.train)
    share = np.array([corpus[label] / len(splits.train) for label in labels])
    vectorizer = CountVectorizer(ngram_range=(1, 2), min_df=1, lowercase=True)
    counts = vectorizer.fit_transform(example.input for example in splits.train)
    bayes = MultinomialNB(alpha=0.1, fit_prior=False).fit(counts, [labels.index(e.target or "") for e in splits.train])
    evidence = bayes.predict_log_proba(vectorizer.transform(example.input for example in splits.heldout))
    own = np.array([history_counts(example, labels) for example in splits.heldout])  # (examples, labels)
    personal = own + SMOOTHING * len(labels) * share
    choices = {
        "majority": np.tile(share, (len(own), 1)),
        "users_commonest": own + 1e-6 * share,
        "text": evidence + np.log(share),
        "text_and_history": evidence + np.log(personal / personal.sum(1, keepdims=True)),
    }
    targets = [example.target or "" for example in splits.heldout]
    return {
        name: score_all(splits.task, [labels[i] for i in scores.argmax(1)], targets)["accuracy"]
        for name, scores in choices.items()
    }


def history_counts(example: Example, labels: list[str]) -> list[int]:
    seen = Counter(item.fields["section"] for item in example.profile)
    return [seen[label] for label in labels]


def synopsis_baselines(splits: Splits) -> dict[str, float]:
    targets = [example.target or "" for example in splits.heldout]
    leads = [re.split(r"(?<=[.!?])\s", example.input)[0] for example in splits.heldout]
    nearest = []
    for example in splits.heldout:
        best = choose(splits.task, example, ProfileSettings(retriever="bm25", k=1), 0)
        nearest.append(best[0].fields["synopsis"])
    lead, past = (score_all(splits.task, answers, targets) for answers in (leads, nearest))
    return {
        "lead_rouge1": lead["rouge1"],
        "lead_rougeL": lead["rougeL"],
        "nearest_past_rouge1": past["rouge1"],
        "nearest_past_rougeL": past["rougeL"],
    }


def main() -> None:
    runs = [load_splits(DataSettings(), seed, Path()) for seed in range(5)]
    sections = [section_baselines(splits["package-section"]) for splits in runs]
    synopses = [synopsis_baselines(splits["package-synopsis"]) for splits in runs]
    first = runs[0]["package-section"]
    figures = {
        "users": first.report.users,
        "items": first.report.items,
        "train": len(first.train),
        "heldout": len(first.heldout),
        "labels": dict(Counter(example.target for example in [*first.train, *first.heldout]).most_common()),
        "seeds": len(runs),
        "package-section accuracy": {name: round(mean(row[name] for row in sections), 4) for name in sections[0]},
        "package-synopsis": {name: round(mean(row[name] for row in synopses), 4) for name in synopses[0]},
    }
    path = write_results("bundled-data", "python benchmarks/bundled_data.py", figures)
    print(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
