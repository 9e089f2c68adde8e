-- Claims are counted in `tenants.live` for tenants with a cap, and for no other: the count is a row that all of a tenant's
-- claims would wait for in turn, and who has no cap need not wait for himself.
--
-- So that setting a cap cannot miss a claim that begins or ends meanwhile, each of those asks here first, which holds a
-- shared lock to the end of its transaction; set_cap takes the same lock for itself alone, and counts.
create or replace function is_capped(p_tenant text) returns boolean language plpgsql as $$
begin
    perform pg_advisory_xact_lock_shared(hashtextextended('stoker:cap:' || p_tenant, 0));
    return exists (select from tenants t where t.name = p_tenant and t.max_workers > 0);
end $$;

-- 0 takes the cap away. A cap below what the tenant holds ends no claim: it holds its claims, and gets no further one.
create or replace function set_cap(p_tenant text, p_cap int) returns void language plpgsql as $$
declare
    held int;
begin
    perform pg_advisory_xact_lock(hashtextextended('stoker:cap:' || p_tenant, 0));
    select count(*) into held from workers w where w.tenant = p_tenant and w.lease_until is not null;
    insert into tenants as t (name, max_workers, ceiling, live)
        values (p_tenant, p_cap, case when p_cap > 0 then greatest(p_cap, held) end, case when p_cap > 0 then held else 0 end)
        on conflict (name) do update
            set max_workers = excluded.max_workers, ceiling = excluded.ceiling, live = excluded.live
            where t.max_workers <> excluded.max_workers;
end $$;
