"""Yelp reviews (text -> stars) and HuffPost articles (short description -> headline), both with days as dates."""

from pathlib import Path
from typing import Any

from tagpr.data.adapters import raw_file
from tagpr.data.formats.delimited import csv_rows
from tagpr.data.formats.jsonl import json_lines
from tagpr.data.rejects import Rejects


def review_rows(raw: Path) -> list[dict[str, Any]]:
    """One row per review; users are Yelp's own ids. Duplicate texts of a user count once."""
    rows, seen = [], set()
    for _, row in csv_rows(raw_file(raw, "yelp*.csv"), Rejects(skip=True)):
        key = row["user_id"], row["text"].strip()
        if key[1] and key not in seen and row["stars"] in ("1", "2", "3", "4", "5"):
            seen.add(key)
            names = {"user_id": row["user_id"], "id": row["review_id"], "date": row["date"]}
            rows.append({**names, "input": row["text"], "output": row["stars"]})
    return rows


def headline_rows(raw: Path) -> list[dict[str, Any]]:
    """One row an article of a single named author; the part of a byline behind a comma is a role, not a name."""
    rows = []
    for number, row in json_lines(raw_file(raw, "News_Category*.json"), Rejects(skip=True)):
        author = str(row.get("authors", "")).split(",")[0].strip()
        if not author or " and " in author or not row.get("short_description") or not row.get("headline"):
            continue
        names = {"user_id": author, "id": str(number), "date": row["date"]}
        rows.append({**names, "input": row["short_description"], "output": row["headline"]})
    return rows
