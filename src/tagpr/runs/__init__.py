"""Run folders: stages, manifests, progress, memory."""
