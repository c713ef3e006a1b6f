# Two images, one upon the other. The base layer changes rarely: the system with what jobs expect. The runner layer is a few minutes
# of baking: the agent and a verified runner. Baked by `packer/bake.sh`, or `packer build -only='base.*' packer/`.
# The scripts are those that the boot tests run; what the runner layer bakes is not registered unless the agent's selfcheck passes.

locals {
  as_root = "sudo env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin {{ .Vars }} bash -e {{ .Path }}"

  # Lets the key in, and sees to it that a builder whom packer forgot ends itself: whatever became of packer, of its machine or the wire.
  user_data = <<-MIME
    Content-Type: multipart/mixed; boundary="runs-fleet"
    MIME-Version: 1.0

    --runs-fleet
    Content-Type: text/cloud-config

    ssh_authorized_keys: ${jsonencode(compact([var.ssh_public_key]))}
    --runs-fleet
    Content-Type: text/cloud-boothook

    #!/bin/sh
    systemd-run --quiet --no-block --unit=runs-fleet-builder-limit --on-active=${var.builder_minutes}min --timer-property=AccuracySec=1s \
      --property=DefaultDependencies=no --timer-property=DefaultDependencies=no systemctl poweroff --force
    --runs-fleet--
    MIME
}

build {
  name = "base"

  source "source.amazon-ebs.builder" {
    ami_name        = "runs-fleet-base-${var.system}-${var.architecture}-${local.stamp}"
    ami_description = "runs-fleet: ${var.system} with what jobs expect"
    tags            = local.base_tags
    snapshot_tags   = local.base_tags
    run_tags        = { "Name" = "runs-fleet builder: base", "runs-fleet:builder" = "base" }
    run_volume_tags = { "Name" = "runs-fleet builder: base", "runs-fleet:builder" = "base" }
    source_ami      = var.source_ami
    source_ami_filter {
      owners      = compact([var.source_ami == "" ? local.source_owner : ""])
      most_recent = true
      filters = { for key, value in {
        "name"                = local.system.name
        "architecture"        = local.names[var.architecture]
        "virtualization-type" = "hvm"
        "root-device-type"    = "ebs"
      } : key => value if var.source_ami == "" }
    }
  }

  provisioner "shell" {
    script           = "${path.root}/scripts/base.sh"
    execute_command  = local.as_root
    environment_vars = ["DOCKER=${var.docker ? "yes" : "no"}"]
  }

  provisioner "shell" {
    inline          = ["rm -f /root/.ssh/authorized_keys ~${local.system.user}/.ssh/authorized_keys"]
    execute_command = local.as_root
  }

  post-processor "manifest" {
    output     = var.manifest
    strip_path = true
  }
}

build {
  name = "runner"

  source "source.amazon-ebs.builder" {
    ami_name        = "runs-fleet-runner-${var.system}-${var.architecture}-${var.runner_version}-${local.stamp}"
    ami_description = "runs-fleet: agent ${var.agent_version} and runner ${var.runner_version} on ${var.system}"
    tags            = local.runner_tags
    snapshot_tags   = local.runner_tags
    run_tags        = { "Name" = "runs-fleet builder: runner", "runs-fleet:builder" = "runner" }
    run_volume_tags = { "Name" = "runs-fleet builder: runner", "runs-fleet:builder" = "runner" }
    source_ami      = var.base_ami
    source_ami_filter {
      owners      = compact([var.base_ami == "" ? "self" : ""])
      most_recent = true
      filters = { for key, value in {
        "tag:runs-fleet:layer"        = "base"
        "tag:runs-fleet:system"       = var.system
        "tag:runs-fleet:architecture" = var.architecture
      } : key => value if var.base_ami == "" }
    }
  }

  provisioner "file" {
    source      = local.bundle
    destination = "/tmp/runs-fleet.tar.gz"
    generated   = true # looked for when it is needed: one can validate without having built it
  }

  provisioner "shell" {
    inline = [
      "echo '${var.agent_sha256}  /tmp/runs-fleet.tar.gz' | sha256sum --check --quiet",
      "rm -rf /tmp/runs-fleet && mkdir /tmp/runs-fleet && tar -xzf /tmp/runs-fleet.tar.gz -C /tmp/runs-fleet",
      "/tmp/runs-fleet/install.sh",
      "[ ! -d /run/systemd/system ] || systemctl stop runs-fleet-deadline.timer", # this machine's deadline is the builder's
    ]
    execute_command = local.as_root
  }

  provisioner "shell" {
    scripts         = ["${path.root}/scripts/runner.sh", "${path.root}/scripts/seal.sh"]
    execute_command = local.as_root
    environment_vars = [
      "RUNNER_VERSION=${var.runner_version}",
      "RUNNER_SHA256=${var.runner_sha256}",
      "RUNNER_URL=${var.runner_url}",
      "SOURCE_IMAGE=${build.SourceAMI}",
    ]
  }

  post-processor "manifest" {
    output     = var.manifest
    strip_path = true
  }
}
