"""Language models through LiteLLM: requests, answers, tools. Knows neither Redis, Celery nor contexts."""
