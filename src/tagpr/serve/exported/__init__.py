"""What an exported folder holds besides the checkpoint: the prompt's example and the model card's text."""
