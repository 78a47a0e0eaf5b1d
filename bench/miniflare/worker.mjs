// The product's paths and bodies over a KV and a D1 binding. A bulk put is what the binding offers: one put an entry.
export default {
  async fetch(request, { KV, DB }) {
    const { pathname, searchParams } = new URL(request.url);
    if (pathname === "/query") {
      const { sql, params, statements } = await request.json();
      if (statements) {
        const results = await DB.batch(statements.map(({ sql, params }) => DB.prepare(sql).bind(...params)));
        return Response.json({ results: results.map(({ results, meta }) => ({ rows: results, meta })) });
      }
      const [columns, ...rows] = await DB.prepare(sql).bind(...params).raw({ columnNames: true });
      return Response.json({ columns, rows });
    }
    if (pathname.startsWith("/values/")) {
      const key = decodeURIComponent(pathname.slice("/values/".length));
      if (request.method === "GET") {
        const value = await KV.get(key);
        return value === null
          ? Response.json({ code: "kv_key_not_found" }, { status: 404 })
          : Response.json({ key, value, encoding: "text" });
      }
      const { value } = await request.json();
      await KV.put(key, value);
      return Response.json({ key });
    }
    if (pathname === "/keys") {
      return Response.json(await KV.list({ limit: Number(searchParams.get("limit") ?? 1000) }));
    }
    if (pathname === "/bulk" && request.method === "POST") {
      const { keys } = await request.json();
      const values = await KV.get(keys);
      return Response.json({ entries: keys.map((key) => ({ key, value: values.get(key) })) });
    }
    if (pathname === "/bulk") {
      const { entries } = await request.json();
      await Promise.all(entries.map(({ key, value }) => KV.put(key, value)));
      return Response.json({ written: entries.length });
    }
    return new Response("not found", { status: 404 });
  },
};
