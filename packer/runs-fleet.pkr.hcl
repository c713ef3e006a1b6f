# An image with the agent and a verified runner baked in. Kept within the syntax of packer 1.6.6, which Debian ships.

variable "region" {
  type    = string
  default = "us-east-1"
}

variable "architecture" {
  type        = string
  default     = "amd64"
  description = "The image's architecture: amd64 or arm64."
}

variable "source_ami" {
  type        = string
  default     = "ami-00000000000000000"
  description = "The image to start from: Amazon Linux 2023 or Ubuntu 24.04 of that architecture."
}

variable "runner_version" {
  type    = string
  default = "2.336.0"
}

variable "runner_sha256" {
  type        = string
  default     = ""
  description = "Lower-case hex; the build refuses a runner that nobody vouches for."
}

locals {
  instance_type = var.architecture == "arm64" ? "m7g.large" : "m7i.large"
}

source "amazon-ebs" "runner" {
  region        = var.region
  source_ami    = var.source_ami
  instance_type = local.instance_type
  ssh_username  = "ec2-user"
  ami_name      = "runs-fleet-${var.architecture}-${formatdate("YYYYMMDDhhmmss", timestamp())}"

  tags = {
    "runs-fleet:managed"        = "true"
    "runs-fleet:runner-version" = var.runner_version
  }
}

build {
  sources = ["source.amazon-ebs.runner"]

  provisioner "file" {
    source      = "${path.root}/../userdata/"
    destination = "/tmp"
  }

  provisioner "shell" {
    script = "${path.root}/provision.sh"
    environment_vars = [
      "RUNNER_VERSION=${var.runner_version}",
      "RUNNER_SHA256=${var.runner_sha256}",
      "ARCHITECTURE=${var.architecture}",
    ]
  }
}
