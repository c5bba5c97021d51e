SELECT seller, AVG(final) OVER (PARTITION BY seller ORDER BY dateTime ROWS BETWEEN 10 PRECEDING AND CURRENT ROW)
FROM (
    SELECT seller, final, dateTime
    FROM (
        SELECT A.id, A.seller, B.price AS final, B.dateTime,
            ROW_NUMBER() OVER (PARTITION BY A.id, A.seller ORDER BY B.price DESC) AS rownum
        FROM auction AS A JOIN bid AS B ON A.id = B.auction
        WHERE B.dateTime BETWEEN A.dateTime AND A.expires
    )
    WHERE rownum <= 1
)
