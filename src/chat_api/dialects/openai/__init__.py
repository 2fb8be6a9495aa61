"""OpenAI's Responses and Conversations, under /v1, over the same conversations."""
