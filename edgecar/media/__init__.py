"""Pictures, clips and cameras in and out."""
