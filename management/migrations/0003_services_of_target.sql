-- The services that lead to a peer, read from the index alone and in its order.
DROP INDEX targets_target;
CREATE INDEX targets_target ON targets (account_id, target_id, service_id);
