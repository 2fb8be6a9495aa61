"""The application for `uvicorn src.main:app`, configured by the environment."""

from chat_api.app import create_app

app = create_app()
