-- Ids are compared byte by byte (i1 and I1 are two instances; so are 'i1' and 'i1 '), and one id has one row.
-- The reference had no unique key: of several rows with one id it always read the first; the others are its duplicates.
DELETE later FROM service_instances later JOIN service_instances earlier ON earlier.guid = later.guid AND earlier.id < later.id;
SET @exact = IF(VERSION() LIKE '%MariaDB%', 'utf8mb4_nopad_bin', 'utf8mb4_0900_bin');
SET @ddl = IF(
  EXISTS (SELECT 1 FROM information_schema.STATISTICS
           WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'service_instances' AND INDEX_NAME = 'unique_service_instances_on_guid'),
  'DO 0',
  CONCAT('ALTER TABLE service_instances ROW_FORMAT=DYNAMIC,
     MODIFY guid VARCHAR(255) CHARACTER SET utf8mb4 COLLATE ', @exact, ' NULL,
     MODIFY plan_guid VARCHAR(255) CHARACTER SET utf8mb4 NULL,
     ADD UNIQUE KEY unique_service_instances_on_guid (guid)'));
PREPARE statement FROM @ddl;
EXECUTE statement;
DEALLOCATE PREPARE statement;
