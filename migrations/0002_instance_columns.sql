-- Our columns beside the reference's, all in one ALTER: it happens or it does not. Every default is what an adopted
-- instance is: ready, nobody working on it, nothing known of its owner. reserved_bytes 0 is filled in by `migrate`.
SET @ddl = IF(
  EXISTS (SELECT 1 FROM information_schema.COLUMNS
           WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'service_instances' AND COLUMN_NAME = 'op_id'),
  'DO 0',
  'ALTER TABLE service_instances
     ADD COLUMN service_guid VARCHAR(255) CHARACTER SET utf8mb4 NULL,
     ADD COLUMN organization_guid VARCHAR(255) CHARACTER SET utf8mb4 NULL,
     ADD COLUMN space_guid VARCHAR(255) CHARACTER SET utf8mb4 NULL,
     ADD COLUMN parameters MEDIUMTEXT CHARACTER SET utf8mb4 NULL,
     ADD COLUMN context MEDIUMTEXT CHARACTER SET utf8mb4 NULL,
     ADD COLUMN maintenance_version VARCHAR(255) CHARACTER SET utf8mb4 NULL,
     ADD COLUMN state VARCHAR(16) CHARACTER SET ascii NOT NULL DEFAULT ''ready'',
     ADD COLUMN op_id CHAR(32) CHARACTER SET ascii NULL,
     ADD COLUMN lease_until DATETIME(6) NULL,
     ADD COLUMN reserved_bytes BIGINT UNSIGNED NOT NULL DEFAULT 0,
     ADD COLUMN revision BIGINT UNSIGNED NOT NULL DEFAULT 0,
     ADD COLUMN created_at DATETIME(6) NULL,
     ADD COLUMN updated_at DATETIME(6) NULL,
     ADD KEY index_service_instances_on_lease_until (lease_until)');
PREPARE statement FROM @ddl;
EXECUTE statement;
DEALLOCATE PREPARE statement;
