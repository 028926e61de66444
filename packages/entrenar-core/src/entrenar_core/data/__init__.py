"""Data: documents from files, token ids from documents, batches from token ids."""
