"""What an installer ships and a machine boots: command line, platform services, first-boot provisioning."""
