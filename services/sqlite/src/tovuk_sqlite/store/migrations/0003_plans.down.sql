DROP TABLE account_plan;
