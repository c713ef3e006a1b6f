# The machine that bakes, for packer 1.6.6, whose amazon plugin is built in. current/plugins.pkr.hcl is the same for today's packer.

source "amazon-ebs" "builder" {
  region                                = var.region
  instance_type                         = local.instance_type
  subnet_id                             = var.subnet_id
  temporary_security_group_source_cidrs = var.ssh_from
  shutdown_behavior                     = "terminate"
  user_data                             = local.user_data

  ssh_username         = local.system.user
  ssh_private_key_file = var.ssh_private_key_file
  ssh_keypair_name     = var.ssh_keypair_name
  ssh_host             = var.ssh_host
  ssh_port             = var.ssh_port
  ssh_timeout          = "5m"

  launch_block_device_mappings {
    device_name           = local.system.disk
    volume_type           = "gp3"
    volume_size           = var.volume_gb
    iops                  = 3000 # with the throughput, what gp3 costs no more for
    throughput            = 125
    encrypted             = var.encrypted ? true : null # null: as the account's own rule has it
    delete_on_termination = true
  }

  custom_endpoint_ec2        = var.endpoint
  skip_region_validation     = var.endpoint != ""
  skip_credential_validation = var.endpoint != ""
  skip_metadata_api_check    = var.endpoint != ""
}
