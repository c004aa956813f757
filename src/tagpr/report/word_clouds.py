"""Word clouds of the chains (figure 6): the untrained model's beside the trained one's."""

from tagpr.report.charts import Chart
from tagpr.report.diagrams import word_cloud
from tagpr.report.reading import RunData
from tagpr.report.svg import colour
from tagpr.report.words import chain_words, frequent


def word_clouds(run: RunData) -> list[Chart]:
    """Figure 6: the words of Base's chains and of those of the system trained last."""
    found = []
    for system in dict.fromkeys(name for name in ("base", run.last_trained) if name and run.answers(name)):
        counted = frequent(chain_words(row.completion) for row in run.answers(system))
        title = f"Words of {system}'s chains"
        picture = word_cloud(title, counted, colour(system))
        found.append(Chart(f"words-{system}", "chains", title, picture, ("word", "count"), tuple(counted)))
    return found
