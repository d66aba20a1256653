"""A whole gateway on one machine for a first look: an archive to deliver to, a study to send, and what came back."""
