"""What a job runs on: devices, processes, threads that read ahead, the job's log."""
