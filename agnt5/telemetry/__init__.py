"""What a process tells of itself: log lines, figures for Prometheus, spans for OpenTelemetry."""
