"""AWS. The two calls that bracket a life (read the parameter, terminate the instance) are signed here, without boto3."""
