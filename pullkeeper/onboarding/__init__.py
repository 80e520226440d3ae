"""Onboarding: what the installation guide has a person do by hand in eight steps. One phase a file."""
