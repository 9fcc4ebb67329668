"""Archives of clips: cut at keyframes, restored by many workers, joined again."""
