# The machine that bakes, for packer of 1.9 and newer, which fetches its plugins and knows IMDSv2; the rest of the template is the same
# for both (links). packer 1.6.6 never reads this directory. `packer/bake.sh` takes it where packer is not 1.6; by hand:
#
#   packer init packer/current
#   packer build -only='base.*' packer/current

packer {
  required_version = ">= 1.9.0"
  required_plugins {
    amazon = {
      source  = "github.com/hashicorp/amazon"
      version = ">= 1.3.7, < 2.0.0"
    }
  }
}

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

  skip_ami_run_tags = true   # an image is no builder
  imds_support      = "v2.0" # of the image: what is launched from it answers nobody who asks without a token
  metadata_options {         # of the builder
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

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
