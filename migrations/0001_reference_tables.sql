-- The tables of cf-mysql-broker (Rails), as it made them: an existing installation has them already.
CREATE TABLE IF NOT EXISTS service_instances (
  id INT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  guid VARCHAR(255),
  plan_guid VARCHAR(255),
  max_storage_mb INT NOT NULL DEFAULT 0,
  db_name VARCHAR(255)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;

CREATE TABLE IF NOT EXISTS read_only_users (
  id INT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  username VARCHAR(255),
  grantee VARCHAR(255),
  created_at DATETIME NOT NULL,
  updated_at DATETIME NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;
