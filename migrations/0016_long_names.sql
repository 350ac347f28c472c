-- Accounts that an operator made may have any name: 128 characters on MariaDB. Wider than before, so an older version goes on.
ALTER TABLE quota_revocations MODIFY username VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL;
ALTER TABLE quota_object_revocations MODIFY username VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL;
