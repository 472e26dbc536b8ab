"""What lies behind addresses (https://, s3://, gs://, hf://): who reads it, and what its failures mean."""
