"""The web role: health, readiness, metrics, and instances over HTTP (PS3.18). Only `server` and `app` load FastAPI."""
