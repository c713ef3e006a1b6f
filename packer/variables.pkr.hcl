# What can be chosen for an image, and what follows from the choice. `packer/bake.sh` gives the words that must agree.
#
# The syntax is that of packer 1.6.6, which Debian ships: it has no `regex`, and `can(regex(…))` would quietly be false. So what a
# value must look like is told by what `regex_replace` leaves of it: nothing.

variable "system" {
  type        = string
  default     = "amazon-linux-2023"
  description = "The system to start from."
  validation {
    condition     = contains(["amazon-linux-2023", "ubuntu-24.04"], var.system)
    error_message = "The system must be amazon-linux-2023 or ubuntu-24.04."
  }
}

variable "architecture" {
  type    = string
  default = "amd64"
  validation {
    condition     = contains(["amd64", "arm64"], var.architecture)
    error_message = "The architecture must be amd64 or arm64."
  }
}

variable "region" {
  type    = string
  default = "us-east-1"
  validation {
    condition     = var.region != "" && regex_replace(var.region, "^[a-z]{2,4}(-[a-z]+)+-[0-9]+$", "") == ""
    error_message = "The region must be one of EC2's, such as eu-central-1."
  }
}

variable "source_ami" {
  type        = string
  default     = ""
  description = "The image the base layer starts from; empty: the newest of the system's publisher."
  validation {
    condition     = regex_replace(var.source_ami, "^ami-[0-9a-f]{8,17}$", "") == ""
    error_message = "The source_ami must be an image's id, such as ami-0123456789abcdef0, or empty."
  }
}

variable "source_owner" {
  type        = string
  default     = ""
  description = "The account that publishes the system; empty: the one of the commercial regions (China and GovCloud have others)."
  validation {
    condition     = regex_replace(var.source_owner, "^([0-9]{12}|self|amazon)$", "") == ""
    error_message = "The source_owner must be an account's 12 digits, self, amazon, or empty."
  }
}

variable "base_ami" {
  type        = string
  default     = ""
  description = "The image the runner layer starts from; empty: our newest base layer of that system and architecture."
  validation {
    condition     = regex_replace(var.base_ami, "^ami-[0-9a-f]{8,17}$", "") == ""
    error_message = "The base_ami must be an image's id, such as ami-0123456789abcdef0, or empty."
  }
}

variable "docker" {
  type        = bool
  default     = false
  description = "Whether the base layer has docker. A job that may use it is root when it wants to be."
}

variable "runner_version" {
  type    = string
  default = "2.336.0"
  validation {
    condition     = var.runner_version != "" && regex_replace(var.runner_version, "^[0-9]+\\.[0-9]+\\.[0-9]+$", "") == ""
    error_message = "The runner_version must be a release of actions/runner, such as 2.336.0."
  }
}

variable "runner_sha256" {
  type        = string
  default     = ""
  description = "The release's digest for that architecture, from its release page; the runner layer is not baked without."
  validation {
    condition     = regex_replace(var.runner_sha256, "^[0-9a-f]{64}$", "") == ""
    error_message = "The runner_sha256 must be 64 digits of lower-case hex: the release's SHA-256."
  }
}

variable "runner_url" {
  type        = string
  default     = ""
  description = "Where the release comes from; empty: GitHub."
  validation {
    condition     = regex_replace(var.runner_url, "^(https?|file)://[^ ']+$", "") == ""
    error_message = "The runner_url must begin with https://, http:// or file://, or be empty."
  }
}

variable "bundle_directory" {
  type        = string
  default     = "dist"
  description = "Where packer/bundle.py left the agent's bundle."
}

variable "agent_version" {
  type        = string
  default     = "0.0.0"
  description = "The bundle's version, as in its name."
  validation {
    condition     = var.agent_version != "" && regex_replace(var.agent_version, "^[0-9A-Za-z.+]+$", "") == ""
    error_message = "The agent_version must be a version, such as 0.1.0."
  }
}

variable "agent_sha256" {
  type        = string
  default     = ""
  description = "The bundle's digest; the runner layer is not baked without."
  validation {
    condition     = regex_replace(var.agent_sha256, "^[0-9a-f]{64}$", "") == ""
    error_message = "The agent_sha256 must be 64 digits of lower-case hex: what packer/bundle.py printed."
  }
}

variable "instance_type" {
  type        = string
  default     = ""
  description = "What bakes; empty: a small one of the architecture."
  validation {
    condition     = regex_replace(var.instance_type, "^[a-z0-9-]+\\.[a-z0-9-]+$", "") == ""
    error_message = "The instance_type must be one of EC2's, such as m7i.large, or empty."
  }
}

variable "volume_gb" {
  type        = number
  default     = 16
  description = "The root volume's size in GiB; a machine launched from the image may have more."
  validation {
    condition     = var.volume_gb >= 8 && var.volume_gb <= 16384
    error_message = "The volume_gb must be 8 to 16384."
  }
}

variable "encrypted" {
  type        = bool
  default     = false
  description = "Encrypt the image with the account's default key. Not encrypted it can be shared, and it holds no secret."
}

variable "subnet_id" {
  type        = string
  default     = ""
  description = "Where the builder stands; empty: the default network."
  validation {
    condition     = regex_replace(var.subnet_id, "^subnet-[0-9a-f]{8,17}$", "") == ""
    error_message = "The subnet_id must be a subnet's id, or empty."
  }
}

variable "ssh_from" {
  type        = list(string)
  default     = ["0.0.0.0/0"]
  description = "Who may try to log in to the builder, as CIDRs. Only the holder of the key of this bake succeeds."
}

variable "builder_minutes" {
  type        = number
  default     = 90
  description = "A builder that was left alone switches itself off, and is terminated by that, after as many minutes."
  validation {
    condition     = var.builder_minutes >= 15 && var.builder_minutes <= 720
    error_message = "The builder_minutes must be 15 to 720."
  }
}

variable "ssh_private_key_file" {
  type        = string
  default     = ""
  description = "A key to log in with; empty: packer asks EC2 for one, and an upstream 1.6.6 cannot log in with it (RSA, signed with SHA-1)."
}

variable "ssh_public_key" {
  type        = string
  default     = ""
  description = "Its public half, which the builder's cloud-init lets in; empty: ssh_keypair_name says what EC2 calls it."
  validation {
    condition     = regex_replace(var.ssh_public_key, "^(ssh-ed25519|ecdsa-sha2-nistp256) [A-Za-z0-9+/=]+( [^\"]*)?$", "") == ""
    error_message = "The ssh_public_key must be an ed25519 or ecdsa key, in one line: not every packer can use RSA with today's sshd."
  }
}

variable "ssh_keypair_name" {
  type    = string
  default = ""
}

variable "manifest" {
  type        = string
  default     = "dist/images.json"
  description = "Where packer writes down which images it made."
}

# An EC2 of one's own, for tests: where it is, and where the builder's sshd really listens.
variable "endpoint" {
  type    = string
  default = ""
  validation {
    condition     = regex_replace(var.endpoint, "^https?://[^ ]+$", "") == ""
    error_message = "The endpoint must begin with http:// or https://, or be empty."
  }
}

variable "ssh_host" {
  type    = string
  default = ""
}

variable "ssh_port" {
  type    = number
  default = 22
}

locals {
  systems = {
    "amazon-linux-2023" = {
      owner  = "137112412989"
      name   = "al2023-ami-2023.*-kernel-6.18-${local.names[var.architecture]}"
      user   = "ec2-user"
      disk   = "/dev/xvda"
      python = "3.11"
    }
    "ubuntu-24.04" = {
      owner  = "099720109477"
      name   = "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-${var.architecture}-server-*"
      user   = "ubuntu"
      disk   = "/dev/sda1"
      python = "3.12"
    }
  }
  names         = { "amd64" = "x86_64", "arm64" = "arm64" } # EC2's and Amazon's for the architectures
  machines      = { "amd64" = "m7i.large", "arm64" = "m7g.large" }
  system        = local.systems[var.system]
  source_owner  = var.source_owner != "" ? var.source_owner : local.system.owner
  instance_type = var.instance_type != "" ? var.instance_type : local.machines[var.architecture]
  bundle        = "${var.bundle_directory}/runs-fleet-agent-${var.agent_version}-py${local.system.python}-${var.architecture}.tar.gz"
  stamp         = formatdate("YYYYMMDDhhmmss", timestamp())

  tags = {
    "runs-fleet:system"       = var.system
    "runs-fleet:architecture" = var.architecture
    "runs-fleet:source-image" = "{{ .SourceAMI }}"
  }
  base_tags = merge(local.tags, {
    "Name"              = "runs-fleet base ${var.system} ${var.architecture}"
    "runs-fleet:layer"  = "base"
    "runs-fleet:docker" = var.docker ? "true" : "false"
  })
  runner_tags = merge(local.tags, {
    "Name"                      = "runs-fleet runner ${var.system} ${var.architecture} ${var.runner_version}"
    "runs-fleet:layer"          = "runner"
    "runs-fleet:runner-version" = var.runner_version
    "runs-fleet:runner-sha256"  = var.runner_sha256
    "runs-fleet:agent-version"  = var.agent_version
    "runs-fleet:agent-sha256"   = var.agent_sha256
  })
}
