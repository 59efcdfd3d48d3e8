"""What the operating system gives, without torch: processes, locks, whole files, the machine."""
