#!/bin/bash
echo "$PATH" > .path
