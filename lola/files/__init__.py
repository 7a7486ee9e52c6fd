"""What is read and written: profiles, fleets, scenarios, schedules and traces."""
