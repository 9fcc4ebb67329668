"""What runs an artifact: one class a library, all behind `Engine`."""
